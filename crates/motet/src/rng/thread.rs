use std::cell::Cell;
use std::marker::PhantomData;
use std::mem;

use super::Rng;

/// What a thread knows of its generator.
enum Slot {
    /// Nothing was drawn yet; the first draw seeds it from entropy.
    Unseeded,
    Ready(Rng),
    /// A closure given to [`with`] has it. What [`aside`] seeds its next generator with.
    Lent(u64),
}

thread_local! {
    // Const and without drop glue: there is no destructor after which a late draw, from the drop of another
    // thread-local, would fail.
    static SLOT: Cell<Slot> = const { Cell::new(Slot::Unseeded) };
}

/// Lends the generator of the current thread to `draw`.
///
/// Seeded from entropy by the first draw on each thread, unless [`seed_thread`] came before. `draw` may panic:
/// the generator is back in its place, where the panic left it.
///
/// # Panics
/// If called from within `draw`: the generator is lent already. Use the one you were given.
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
        Err(_) => panic!("rng::with was called inside rng::with: draw from the generator at hand"),
    }
}

/// Does what [`with`] does, and where the generator is lent already lends another, which follows from it.
///
/// For what is drawn at the end of a call: that may be reached from anybody's closure, one given to [`with`] too.
pub(crate) fn aside<T>(draw: impl FnOnce(&mut Rng) -> T) -> T {
    lend(draw).unwrap_or_else(|draw| match SLOT.replace(Slot::Lent(0)) {
        Slot::Lent(seed) => {
            SLOT.set(Slot::Lent(seed.wrapping_add(1)));
            draw(&mut Rng::seeded(seed))
        }
        // It was lent a moment ago, on this very thread.
        _ => unreachable!("a generator is brought back at the end of its closure alone"),
    })
}

/// Gives `draw` back where the generator is lent already.
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

/// Brings the generator back, also when the closure panics.
struct Loan {
    rng: Rng,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let back = Slot::Ready(mem::replace(&mut self.rng, Rng::seeded(0)));
        let found = SLOT.replace(back);
        // A guard of `seed_thread` dropped inside the closure has restored what was before it, and that
        // is what counts: this generator belonged to the guard.
        if !matches!(found, Slot::Lent(_)) {
            SLOT.set(found);
        }
    }
}

/// Seeds the generator of the current thread, until the guard is dropped.
///
/// For simulators and tests: on a current-thread runtime every draw of the program then follows from `seed`.
/// Other threads are not affected. Guards nest; they are dropped in the reverse order of their making, as
/// variables of one block are.
///
/// # Panics
/// If called inside the closure of [`with`]: the generator to replace is lent.
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
            panic!("rng::seed_thread was called inside rng::with: seed the thread before drawing from it")
        }
        former => SeedGuard { former, this_thread_only: PhantomData },
    }
}

/// Restores, when dropped, the generator that the thread had before [`seed_thread`].
///
/// # Drop
/// The former generator goes on with the number it would have given next, as if nothing had been between.
#[must_use = "the seed is in force only as long as the guard lives"]
pub struct SeedGuard {
    former: Slot,
    /// Not `Send`: dropped elsewhere, it would restore a generator to a thread that never had it.
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
    fn dropped_guard_restores_the_outer_sequence() {
        let _outer = seed_thread(1);
        let first = draw();
        let inner = seed_thread(2);
        assert_eq!([draw(), draw()], numbers(2));
        drop(inner);
        assert_eq!([first, draw()], numbers(1), "the outer sequence goes on where it was");
    }

    #[test]
    fn unseeded_threads_differ_after_a_guard() {
        let after_guard = || {
            drop(seed_thread(1));
            draw()
        };
        let spawned = || thread::spawn(after_guard).join().unwrap();
        assert_ne!(spawned(), spawned());
    }

    #[test]
    fn threads_draw_different_numbers() {
        let _this_thread = seed_thread(1);
        let spawned = || thread::spawn(draw).join().unwrap();
        let (one, two) = (spawned(), spawned());
        assert_ne!(one, two);
        assert_ne!(one, numbers::<1>(1)[0], "a seed must not leak to other threads");
    }

    #[test]
    fn generator_survives_a_panic_during_a_draw() {
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
        assert_eq!(draw(), numbers::<1>(6)[0], "the refused draw must take nothing");
    }

    #[test]
    fn draws_aside_take_no_number_and_follow_from_the_seed() {
        let nested = || {
            let _seeded = seed_thread(6);
            let aside = || aside(Rng::next_u64);
            (aside(), with(|rng| (aside(), aside(), rng.next_u64(), aside())), aside())
        };
        let (first, (one, two, second, three), third) = nested();
        assert_eq!([first, second, third], numbers(6));
        let drawn = [first, one, two, second, three, third];
        assert!((0..6).all(|at| !drawn[..at].contains(&drawn[at])), "{drawn:?}");
        assert_eq!(nested(), (first, (one, two, second, three), third), "it does not follow from the seed");
    }

    #[test]
    fn seeding_inside_a_draw_panics() {
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
