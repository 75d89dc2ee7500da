//! Creates in relay what the source has and relay lacks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;

use super::report::{Counts, ImportReport, Totals};
use super::source::{Application, Endpoint, EventType, Headers, Page, Secret, Source};
use crate::control::{CommandError, Control, parse};

const PAGE: &str = "250";

/// Secrets are the same with and without it.
const SECRET_PREFIX: &str = "whsec_";

/// The reason why a copy did not go on.
#[derive(Debug)]
pub(super) enum CopyError {
    /// The import was stopped.
    Stopped,
    /// The object does not exist at the source, or not any more.
    Gone,
    Failed(CommandError),
}

impl From<CommandError> for CopyError {
    fn from(error: CommandError) -> Self {
        Self::Failed(error)
    }
}

/// Copies objects of the source, and counts them.
#[derive(Debug)]
pub(super) struct Copier {
    source: Arc<Source>,
    relay: Control,
    dry_run: bool,
    done: Mutex<ImportReport>,
}

/// The fate of an object that relay lacked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Creation {
    Created,
    /// It was created in between.
    Present,
    Refused(String),
}

impl Copier {
    pub(super) fn new(source: Arc<Source>, relay: Control, dry_run: bool) -> Self {
        Self { source, relay, dry_run, done: Mutex::new(ImportReport::new(dry_run)) }
    }

    /// The report of the work until now.
    pub(super) fn done(&self) -> MutexGuard<'_, ImportReport> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, object: &str, reason: impl Into<String>) {
        self.done().note(object.to_owned(), reason.into());
    }

    /// Counts an object, and notes the reason if relay has refused it.
    fn count(&self, object: &str, creation: Creation, of: impl FnOnce(&mut Totals) -> &mut Counts) {
        let mut done = self.done();
        let counts = of(&mut done.totals);
        match creation {
            Creation::Created => counts.created += 1,
            Creation::Present => counts.present += 1,
            Creation::Refused(reason) => {
                counts.refused += 1;
                done.note(object.to_owned(), reason);
            }
        }
    }

    pub(super) async fn event_type(&self, found: EventType) -> Result<(), CopyError> {
        let object = format!("event type {:?}", found.name);
        let creation = if let Err(reason) = check_segment(&found.name) {
            Creation::Refused(reason)
        } else if let Some(present) = self.read::<EventType>(&format!("/event-type/{}", found.name)).await? {
            self.note_differences(&object, &differences_of_types(&found, &present));
            Creation::Present
        } else {
            let flags = found.feature_flags.as_ref().is_some_and(|flags| !flags.is_empty());
            if found.feature_flag.is_some() || flags {
                self.note(&object, "its feature flag is left out: relay has none");
            }
            let new = json!({
                "name": found.name,
                "description": found.description,
                "schemas": found.schemas,
                "groupName": found.group_name,
                "archived": found.archived,
                "deprecated": found.deprecated,
            });
            self.create("/event-type", &found.name, &new).await?
        };
        self.count(&object, creation, |totals| &mut totals.event_types);
        Ok(())
    }

    /// Copies an application and its endpoints.
    pub(super) async fn application(&self, found: Application) -> Result<(), CopyError> {
        let name = found.name_of_users();
        let object = format!("application {name:?}");
        let path = format!("/app/{name}");
        let mut present = None;
        let creation = if let Err(reason) = check_segment(name).and_then(|()| check_segment(&found.id)) {
            Creation::Refused(reason)
        } else {
            present = self.read::<Application>(&path).await?;
            match &present {
                Some(present) => {
                    let differs = [
                        ("name", present.name != found.name),
                        ("metadata", present.metadata != found.metadata),
                    ];
                    self.note_differences(&object, &differs);
                    Creation::Present
                }
                None => {
                    if found.throttle_rate.or(found.rate_limit).is_some() {
                        let reason = "its rate limit is left out: set throttleRate of its endpoints, or a quota of the tenant";
                        self.note(&object, reason);
                    }
                    let new = json!({"name": found.name, "uid": name, "metadata": found.metadata});
                    self.create("/app", name, &new).await?
                }
            }
        };
        let is_refused = matches!(creation, Creation::Refused(_));
        let is_new = creation == Creation::Created;
        self.count(&object, creation, |totals| &mut totals.applications);
        if is_refused {
            return Ok(());
        }
        // In a dry run a missing application is still missing.
        let present =
            if is_new || present.is_none() { HashMap::new() } else { self.endpoints_of(&path).await? };
        self.endpoints(&object, &found, &path, &present).await
    }

    async fn endpoints(
        &self,
        application: &str,
        app: &Application,
        path: &str,
        present: &HashMap<String, Endpoint>,
    ) -> Result<(), CopyError> {
        let at_source = format!("/app/{}/endpoint", app.id);
        let mut endpoints = self.source.list::<Endpoint>(at_source.clone(), &[("order", "ascending")]);
        while let Some(endpoint) = endpoints.next().await {
            let endpoint = match endpoint {
                Ok(endpoint) => endpoint,
                Err(CopyError::Gone) => {
                    self.note(application, "it was deleted during the import");
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let object = format!("endpoint {:?} of {application}", endpoint.name_of_users());
            let creation = match present.get(endpoint.name_of_users()) {
                Some(present) => {
                    self.compare_endpoints(&object, &at_source, path, &endpoint, present).await?;
                    Creation::Present
                }
                None => self.new_endpoint(&object, &at_source, path, &endpoint).await?,
            };
            self.count(&object, creation, |totals| &mut totals.endpoints);
        }
        Ok(())
    }

    /// Notes the differences of an endpoint that relay has, also of its secret and its headers.
    async fn compare_endpoints(
        &self,
        object: &str,
        at_source: &str,
        path: &str,
        endpoint: &Endpoint,
        present: &Endpoint,
    ) -> Result<(), CopyError> {
        let at_source = format!("{at_source}/{}", endpoint.id);
        let at_relay = format!("{path}/endpoint/{}", endpoint.name_of_users());
        let (Some(secret), Some(Secret { key })) =
            (self.source.secret(&at_source).await?, self.read(&format!("{at_relay}/secret")).await?)
        else {
            // It was deleted during the import, here or there.
            return Ok(());
        };
        let there = self.source.headers(&at_source).await?;
        let here = self.read::<Headers>(&format!("{at_relay}/headers")).await?.unwrap_or_default();
        // Values that one of them does not show cannot be compared.
        let is_shown =
            |name: &str, of: &Headers| !of.sensitive.iter().any(|hidden| hidden.eq_ignore_ascii_case(name));
        let differs = |a: &Headers, b: &Headers| {
            a.headers.iter().any(|(name, value)| {
                let other = b.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
                is_shown(name, b) && other.map(|(_, value)| value) != Some(value)
            })
        };
        let without_prefix = |key: &str| key.strip_prefix(SECRET_PREFIX).unwrap_or(key).to_owned();
        let mut fields = differences_of_endpoints(endpoint, present).to_vec();
        fields.push(("secret", without_prefix(&secret) != without_prefix(&key)));
        fields.push(("headers", differs(&there, &here) || differs(&here, &there)));
        self.note_differences(object, &fields);
        Ok(())
    }

    async fn new_endpoint(
        &self,
        object: &str,
        at_source: &str,
        path: &str,
        endpoint: &Endpoint,
    ) -> Result<Creation, CopyError> {
        let name = endpoint.name_of_users();
        if let Err(reason) = check_segment(name).and_then(|()| check_segment(&endpoint.id)) {
            return Ok(Creation::Refused(reason));
        }
        let at_source = format!("{at_source}/{}", endpoint.id);
        let Some(secret) = self.source.secret(&at_source).await? else {
            return Ok(Creation::Refused("it was deleted during the import".to_owned()));
        };
        let Headers { headers, sensitive } = self.source.headers(&at_source).await?;
        if !sensitive.is_empty() {
            let names = sensitive.join(", ");
            self.note(
                object,
                format!("the source does not show the values of its headers: {names}; set them in relay"),
            );
        }
        if self.source.transforms(&at_source).await? {
            self.note(object, "its transformation is left out: relay sends messages as they are");
        }
        let mut new = json!({
            "uid": name,
            "url": endpoint.url,
            "description": endpoint.description,
            "metadata": endpoint.metadata,
            "disabled": endpoint.disabled,
            "secret": secret,
            "headers": headers,
        });
        for (field, value) in [
            ("eventTypes", endpoint.types().map(|types| json!(types))),
            ("channels", endpoint.channels().map(|channels| json!(channels))),
            ("throttleRate", endpoint.rate().map(|rate| json!(rate))),
        ] {
            if let Some(value) = value {
                new[field] = value;
            }
        }
        Ok(self.create(&format!("{path}/endpoint"), name, &new).await?)
    }

    /// Returns the endpoints that relay has, by the name at the source.
    async fn endpoints_of(&self, path: &str) -> Result<HashMap<String, Endpoint>, CommandError> {
        let mut endpoints = HashMap::new();
        let mut iterator = None::<String>;
        loop {
            let mut query = vec![("limit", PAGE)];
            query.extend(iterator.as_deref().map(|iterator| ("iterator", iterator)));
            let body =
                self.relay.request(Method::GET, &api(&format!("{path}/endpoint")), &query, None).await?;
            let page: Page<Endpoint> = parse(&body)?;
            endpoints.extend(page.data.into_iter().map(|found| (found.name_of_users().to_owned(), found)));
            iterator = page.iterator.filter(|_| !page.done);
            if iterator.is_none() {
                return Ok(endpoints);
            }
        }
    }

    fn note_differences(&self, object: &str, differs: &[(&str, bool)]) {
        let fields: Vec<_> =
            differs.iter().filter(|(_, differs)| *differs).map(|(field, _)| *field).collect();
        if !fields.is_empty() {
            let fields = fields.join(", ");
            self.note(object, format!("relay has it with another value of {fields}, which was kept"));
        }
    }

    /// Reads an object of relay; `None` if it does not exist.
    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CommandError> {
        match self.relay.request(Method::GET, &api(path), &[], None).await {
            Ok(body) => parse(&body).map(Some),
            Err(CommandError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an object with a name in a list of relay, unless this is a dry run.
    async fn create(&self, list: &str, name: &str, new: &Value) -> Result<Creation, CommandError> {
        if self.dry_run {
            return Ok(Creation::Created);
        }
        match self.relay.request(Method::POST, &api(list), &[], Some(new)).await {
            Ok(_) => Ok(Creation::Created),
            // A request whose answer was lost, or another import, has created it. A quota is a conflict as well.
            Err(CommandError::Refused { status: StatusCode::CONFLICT, .. })
                if self.read::<IgnoredAny>(&format!("{list}/{name}")).await?.is_some() =>
            {
                Ok(Creation::Present)
            }
            Err(CommandError::Refused { status, detail }) if is_about_the_object(status) => {
                Ok(Creation::Refused(detail))
            }
            Err(error) => Err(error),
        }
    }
}

fn api(path: &str) -> String {
    format!("/api/v1{path}")
}

/// Returns `true` for a refusal that concerns one object: the next one may be accepted.
fn is_about_the_object(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// Checks that a name is one segment of a path: nothing that the source sends may lead to another path.
fn check_segment(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.is_empty() && name.chars().all(is_allowed) && name.chars().any(|c| c != '.') {
        return Ok(());
    }
    Err(format!("{name:?} is no name of relay: names are made of ASCII letters, digits, '_', '.' and '-'"))
}

fn differences_of_types(found: &EventType, present: &EventType) -> [(&'static str, bool); 5] {
    [
        ("description", present.description != found.description),
        ("schemas", present.schemas != found.schemas),
        ("groupName", present.group_name != found.group_name),
        ("archived", present.archived != found.archived),
        ("deprecated", present.deprecated != found.deprecated),
    ]
}

fn differences_of_endpoints(found: &Endpoint, present: &Endpoint) -> [(&'static str, bool); 7] {
    [
        ("url", present.url != found.url),
        ("description", present.description != found.description),
        ("metadata", present.metadata != found.metadata),
        ("eventTypes", present.types() != found.types()),
        ("channels", present.channels() != found.channels()),
        ("disabled", present.disabled != found.disabled),
        ("throttleRate", present.rate() != found.rate()),
    ]
}
