//! An event emitter: a service says what has happened, and does not know who listens.
//!
//! `cargo run -p motet-examples --example 07_event_emitter`

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use motet::event::{self, Emitter, Subscription};
use motet::task::{Nursery, ScopeError, scope};
use motet_examples::Journal;
use tokio::time::sleep;

struct UserCreated {
    name: &'static str,
    email: &'static str,
}

impl event::Event for UserCreated {
    const NAME: &'static str = "user.created";
}

struct UserUpdated {
    id: u64,
    email: &'static str,
}

impl event::Event for UserUpdated {
    const NAME: &'static str = "user.updated";
}

#[derive(Debug, Clone, PartialEq)]
struct User {
    id: u64,
    name: &'static str,
    email: &'static str,
}

struct UserService {
    emitter: Emitter,
    journal: Journal<Event>,
}

impl UserService {
    async fn create_user(&self, name: &'static str, email: &'static str) -> User {
        self.journal.note(Event::Creating(name));
        sleep(Duration::from_millis(100)).await;
        self.tell(UserCreated { name, email }).await;
        User { id: 1, name, email }
    }

    async fn update_user(&self, user: User, email: &'static str) -> User {
        self.journal.note(Event::Updating(user.id));
        sleep(Duration::from_millis(100)).await;
        self.tell(UserUpdated { id: user.id, email }).await;
        User { email, ..user }
    }

    /// The user is there, whatever becomes of a mail: what goes wrong with a listener is noted here, and not lost.
    async fn tell(&self, event: impl event::Event) {
        let Ok(emitted) = self.emitter.emit(event).await else { return };
        for failed in emitted.failed() {
            self.journal.note(Event::NotTold(failed.to_string()));
        }
    }
}

async fn send_welcome_email(user: Arc<UserCreated>, journal: Journal<Event>) -> Result<(), &'static str> {
    journal.note(Event::SendingMail(user.email));
    sleep(Duration::from_millis(200)).await;
    if !user.email.contains('@') {
        return Err("that is no address");
    }
    journal.note(Event::MailSent(user.email));
    Ok(())
}

async fn log_user_activity(user: Arc<UserCreated>, journal: Journal<Event>) {
    journal.note(Event::Logging(user.name));
    sleep(Duration::from_millis(100)).await;
    journal.note(Event::Logged(user.name));
}

/// Each listener is on for as long as its subscription is kept.
fn listen(emitter: &Emitter, journal: &Journal<Event>) -> Option<[Subscription; 3]> {
    let [mails, logs, updates] = [(); 3].map(|()| journal.clone());
    Some([
        emitter.on_async("welcome mail", move |user| send_welcome_email(user, mails.clone())).ok()?,
        emitter.on_async("activity log", move |user| log_user_activity(user, logs.clone())).ok()?,
        emitter
            .on("update log", move |user: &UserUpdated| updates.note(Event::Updated(user.id, user.email)))
            .ok()?,
    ])
}

async fn program(journal: &Journal<Event>) -> Result<(), ScopeError> {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let _on = listen(&emitter, journal);
        let service = UserService { emitter, journal: journal.clone() };
        let user = service.create_user("Alice", "alice@example.com").await;
        journal.note(Event::Created(user.clone()));
        service.update_user(user, "alice@example.org").await;
        Ok(())
    })
    .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ScopeError> {
    program(&Journal::on_terminal()).await
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Creating(&'static str),
    SendingMail(&'static str),
    MailSent(&'static str),
    Logging(&'static str),
    Logged(&'static str),
    Created(User),
    Updating(u64),
    Updated(u64, &'static str),
    NotTold(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Creating(name) => write!(f, "Creating user: {name}"),
            Self::SendingMail(email) => write!(f, "Sending welcome email to {email}"),
            Self::MailSent(email) => write!(f, "Welcome email sent to {email}"),
            Self::Logging(name) => write!(f, "Logging user activity for {name}"),
            Self::Logged(name) => write!(f, "Activity logged for {name}"),
            Self::Created(User { id, name, email }) => write!(f, "User created: {id}, {name}, {email}"),
            Self::Updating(id) => write!(f, "Updating user {id}"),
            Self::Updated(id, email) => write!(f, "User {id} is at {email}"),
            Self::NotTold(why) => write!(f, "Not told: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    const MAIL: &str = "alice@example.com";
    const NEW_MAIL: &str = "alice@example.org";

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[tokio::test(start_paused = true)]
    async fn listeners_run_concurrently_and_the_service_awaits_them() {
        let journal = Journal::in_memory();
        program(&journal).await.expect("nothing fails");
        let alice = User { id: 1, name: "Alice", email: MAIL };
        assert_eq!(
            journal.entries(),
            [
                (millis(0), Event::Creating("Alice")),
                (millis(100), Event::SendingMail(MAIL)),
                (millis(100), Event::Logging("Alice")),
                (millis(200), Event::Logged("Alice")),
                (millis(300), Event::MailSent(MAIL)),
                (millis(300), Event::Created(alice)),
                (millis(300), Event::Updating(1)),
                (millis(400), Event::Updated(1, NEW_MAIL)),
            ]
        );
    }

    /// The origin's `gather(return_exceptions=True)` throws every error away.
    #[tokio::test(start_paused = true)]
    async fn error_of_a_listener_is_reported() {
        let journal = Journal::in_memory();
        scope(async |n: &Nursery| {
            let emitter = Emitter::new(n);
            let _on = listen(&emitter, &journal);
            let service = UserService { emitter, journal: journal.clone() };
            assert_eq!(service.create_user("Bob", "nowhere").await.name, "Bob");
            Ok(())
        })
        .await
        .expect("nothing fails");
        let events = journal.events();
        assert!(events.contains(&Event::Logged("Bob")), "the other listener is not harmed");
        assert_eq!(events.last(), Some(&Event::NotTold("listener `welcome mail` failed".to_owned())));
    }

    /// The origin's `off` raises for a callback that it does not know, or no longer. Here nothing can be switched off
    /// twice, or that is not on.
    #[tokio::test(start_paused = true)]
    async fn listener_that_is_off_is_not_called() {
        let journal = Journal::in_memory();
        scope(async |n: &Nursery| {
            let emitter = Emitter::new(n);
            let Some([mail, log, updates]) = listen(&emitter, &journal) else { panic!("the scope is open") };
            mail.off();
            drop(updates);
            emitter
                .emit(UserCreated { name: "Alice", email: MAIL })
                .await
                .expect("it is open")
                .into_result()
                .expect("a log");
            // At the latest with the emitter.
            drop(emitter);
            assert!(!log.is_on());
            log.off();
            Ok(())
        })
        .await
        .expect("nothing fails");
        assert_eq!(journal.events(), [Event::Logging("Alice"), Event::Logged("Alice")]);
    }

    /// The origin's emit waits for a listener for ever.
    #[tokio::test(start_paused = true)]
    async fn hanging_listener_delays_the_service_only_to_the_deadline() {
        let journal = Journal::in_memory();
        let begin = Instant::now();
        scope(async |n: &Nursery| {
            let emitter = Emitter::builder().deadline(millis(1_000)).build(n);
            let _hangs = emitter.on_async("hangs", |_: Arc<UserCreated>| pending::<()>());
            let _on = listen(&emitter, &journal);
            let service = UserService { emitter, journal: journal.clone() };
            service.create_user("Alice", MAIL).await;
            Ok(())
        })
        .await
        .expect("nothing fails");
        assert_eq!(begin.elapsed(), millis(1_100));
        let events = journal.events();
        assert!(events.contains(&Event::MailSent(MAIL)));
        assert_eq!(events.last(), Some(&Event::NotTold("listener `hangs` took longer than 1s".to_owned())));
    }
}
