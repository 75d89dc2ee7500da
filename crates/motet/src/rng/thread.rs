use std::cell::Cell;
use std::marker::PhantomData;
use std::mem;

use super::Rng;

/// The generator of a thread.
enum Slot {
    /// Not created yet. The first draw creates it, with a seed of the operating system.
    Unseeded,
    Ready(Rng),
    /// A closure of [`with`] uses the generator. The value is the seed of the next generator of [`aside`].
    Lent(u64),
}

thread_local! {
    // `const` and without a destructor, so that a late draw, in the drop of another thread-local, does not fail.
    static SLOT: Cell<Slot> = const { Cell::new(Slot::Unseeded) };
}

/// Calls `draw` with the generator of the current thread.
///
/// The first call on each thread creates the generator, with a seed of the operating system, unless [`seed_thread`] was
/// called before. If `draw` panics, the generator keeps its state.
///
/// # Panics
/// If it is called within `draw`. Use the generator that `draw` received.
///
/// # Examples
/// ```
/// let heads = motet::rng::with(|rng| rng.below(2) == 0);
/// # let _ = heads;
/// ```
#[track_caller]
pub fn with<T>(draw: impl FnOnce(&mut Rng) -> T) -> T {
    match lend(draw) {
        Ok(drawn) => drawn,
        Err(_) => {
            panic!("rng::with was called inside rng::with; use the generator that the closure received")
        }
    }
}

/// Like [`with`], but within a closure of [`with`] it uses another generator, whose seed depends on the first one.
///
/// For draws at the end of a call, which may also run within a closure of [`with`] of a user.
pub(crate) fn aside<T>(draw: impl FnOnce(&mut Rng) -> T) -> T {
    lend(draw).unwrap_or_else(|draw| match SLOT.replace(Slot::Lent(0)) {
        Slot::Lent(seed) => {
            SLOT.set(Slot::Lent(seed.wrapping_add(1)));
            draw(&mut Rng::seeded(seed))
        }
        // `with` failed on this thread because a closure uses the generator.
        _ => unreachable!("only the end of a closure returns its generator"),
    })
}

/// Returns `draw` if a closure uses the generator.
fn lend<T, D: FnOnce(&mut Rng) -> T>(draw: D) -> Result<T, D> {
    let rng = match SLOT.replace(Slot::Lent(0)) {
        Slot::Unseeded => Rng::from_entropy(),
        Slot::Ready(rng) => rng,
        lent @ Slot::Lent(_) => {
            SLOT.set(lent);
            return Err(draw);
        }
    };
    SLOT.set(Slot::Lent(rng.aside()));
    let mut loan = Loan { rng };
    Ok(draw(&mut loan.rng))
}

/// Returns the generator to its thread, also when the closure panics.
struct Loan {
    rng: Rng,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let back = Slot::Ready(mem::replace(&mut self.rng, Rng::seeded(0)));
        let found = SLOT.replace(back);
        // A guard of `seed_thread` that was dropped in the closure has restored the former generator, which stays: this
        // generator belonged to the guard.
        if !matches!(found, Slot::Lent(_)) {
            SLOT.set(found);
        }
    }
}

/// Sets the seed of the generator of the current thread, until the guard is dropped.
///
/// For simulators and tests: on a current-thread runtime, `seed` determines all draws of the program. Other threads are
/// not affected. Guards nest, and must be dropped in reverse order, like the variables of a block.
///
/// # Panics
/// If it is called within a closure of [`with`], which uses the generator.
///
/// # Examples
/// ```
/// use motet::rng::{self, Rng};
///
/// let _seeded = rng::seed_thread(7);
/// assert_eq!(rng::with(Rng::next_u64), Rng::seeded(7).next_u64());
/// ```
#[track_caller]
pub fn seed_thread(seed: u64) -> SeedGuard {
    match SLOT.replace(Slot::Ready(Rng::seeded(seed))) {
        lent @ Slot::Lent(_) => {
            SLOT.set(lent);
            panic!("rng::seed_thread was called inside rng::with; call it before the draw")
        }
        former => SeedGuard { former, this_thread_only: PhantomData },
    }
}

/// Restores the generator that the thread had before [`seed_thread`], when it is dropped.
///
/// # Drop
/// The former generator continues with its next number.
#[must_use = "the seed is in force only as long as the guard lives"]
#[allow(unnameable_types, reason = "users keep it in a variable, and never write its type")]
pub struct SeedGuard {
    former: Slot,
    /// Not `Send`: on another thread, it would restore a generator that this thread never had.
    this_thread_only: PhantomData<*const ()>,
}

impl Drop for SeedGuard {
    fn drop(&mut self) {
        SLOT.set(mem::replace(&mut self.former, Slot::Unseeded));
    }
}

impl std::fmt::Debug for SeedGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeedGuard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{self, AssertUnwindSafe};
    use std::thread;

    use super::*;

    fn draw() -> u64 {
        with(Rng::next_u64)
    }

    fn numbers<const N: usize>(seed: u64) -> [u64; N] {
        let mut rng = Rng::seeded(seed);
        std::array::from_fn(|_| rng.next_u64())
    }

    #[test]
    fn seeded_thread_draws_the_numbers_of_its_seed() {
        let _seeded = seed_thread(9);
        assert_eq!([draw(), draw(), draw()], numbers(9));
    }

    #[test]
    fn dropped_seed_guard_continues_the_outer_sequence() {
        let _outer = seed_thread(1);
        let first = draw();
        let inner = seed_thread(2);
        assert_eq!([draw(), draw()], numbers(2));
        drop(inner);
        assert_eq!([first, draw()], numbers(1), "the outer sequence does not continue");
    }

    #[test]
    fn threads_draw_different_numbers_after_their_seed_guard() {
        let after_guard = || {
            drop(seed_thread(1));
            draw()
        };
        let spawned = || thread::spawn(after_guard).join().unwrap();
        assert_ne!(spawned(), spawned());
    }

    #[test]
    fn unseeded_threads_differ_and_ignore_the_seed_of_another() {
        let _this_thread = seed_thread(1);
        let spawned = || thread::spawn(draw).join().unwrap();
        let (one, two) = (spawned(), spawned());
        assert_ne!(one, two);
        assert_ne!(one, numbers::<1>(1)[0], "the seed affects another thread");
    }

    #[test]
    fn draws_continue_after_a_panic_during_a_draw() {
        let _seeded = seed_thread(5);
        let panicked = panic::catch_unwind(|| {
            with(|rng| {
                rng.next_u64();
                panic!("while drawing")
            })
        });
        assert!(panicked.is_err());
        assert_eq!(draw(), numbers::<2>(5)[1]);
    }

    #[test]
    fn drawing_inside_a_draw_panics_and_takes_no_number() {
        let _seeded = seed_thread(6);
        let panicked = panic::catch_unwind(|| with(|_| draw()));
        let text = *panicked.unwrap_err().downcast::<&str>().unwrap();
        assert!(text.contains("inside rng::with"), "{text}");
        assert_eq!(draw(), numbers::<1>(6)[0], "the refused draw took a number");
    }

    #[test]
    fn rng_aside_takes_no_number_inside_a_draw_and_follows_the_seed() {
        let nested = || {
            let _seeded = seed_thread(6);
            let aside = || aside(Rng::next_u64);
            (aside(), with(|rng| (aside(), aside(), rng.next_u64(), aside())), aside())
        };
        let (first, (one, two, second, three), third) = nested();
        assert_eq!([first, second, third], numbers(6));
        let drawn = [first, one, two, second, three, third];
        assert!((0..6).all(|at| !drawn[..at].contains(&drawn[at])), "{drawn:?}");
        assert_eq!(
            nested(),
            (first, (one, two, second, three), third),
            "the draws do not depend on the seed"
        );
    }

    #[test]
    fn seeding_inside_a_draw_panics_and_takes_no_number() {
        let _seeded = seed_thread(6);
        let panicked = panic::catch_unwind(|| with(|_| seed_thread(7)));
        assert!(panicked.is_err());
        assert_eq!(draw(), numbers::<1>(6)[0]);
    }

    #[test]
    fn guard_dropped_inside_a_draw_restores_the_outer_seed() {
        let _outer = seed_thread(1);
        let inner = AssertUnwindSafe(seed_thread(2));
        with(|_| drop(inner));
        assert_eq!(draw(), numbers::<1>(1)[0]);
    }
}
