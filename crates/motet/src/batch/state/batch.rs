//! One batch that is not taken yet: its items, and who asked for them.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::mutant;

/// Who waits for the answer to an item.
#[derive(Debug)]
pub(crate) enum Seat<W> {
    /// Somebody, to be told so.
    Asked(W),
    /// Nobody: the item was posted.
    Posted,
    /// Nobody any more.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Batch<T, W, B> {
    pub(crate) number: u64,
    /// Where the answers will be.
    pub(crate) block: B,
    /// In the order in which they came until one is taken out: [`Seating::in_order`].
    pub(crate) items: Vec<T>,
    pub(crate) seats: Vec<Seat<W>>,
    pub(crate) seating: Seating,
    /// When it is to be taken at the latest.
    pub(crate) deadline: Option<Instant>,
    /// Whether it is to be taken as soon as there is room in flight.
    pub(crate) due: bool,
    pub(crate) weight: u64,
    /// How many items were taken out again.
    pub(crate) removed: usize,
    /// How many items it was ever given.
    given: u32,
    /// Items by hash of their key, and by how many of that hash came before. Batches without keys have none.
    keys: Option<HashMap<(u64, u32), u32>>,
}

/// Which seat belongs to which item. Items are numbered as they come, and keep their number.
#[derive(Debug, Default)]
pub(crate) struct Seating {
    /// The number of each item that is left; empty while none was taken out.
    numbers: Vec<u32>,
    /// Where each item is among those that are left, or `GONE`; empty while none was taken out.
    places: Vec<u32>,
    /// The item of each seat; empty while each has its own.
    item_of: Vec<u32>,
    /// How many ask for each item; empty while one does.
    askers: Vec<u32>,
}

const GONE: u32 = u32::MAX;

impl Seating {
    /// Where an item is among those that are left.
    fn position(&self, number: u32) -> Option<usize> {
        match self.places.is_empty() {
            true => Some(number as usize),
            false => {
                self.places.get(number as usize).filter(|place| **place != GONE).map(|place| *place as usize)
            }
        }
    }

    /// Takes an item out: the last one takes its place, so that it costs the same in a batch of any size.
    fn take_out<T>(&mut self, items: &mut Vec<T>, at: usize, given: u32) -> T {
        if self.places.is_empty() {
            self.numbers.extend(0..given);
            self.places.extend(0..given);
        }
        let gone = self.numbers.swap_remove(at);
        self.places[gone as usize] = GONE;
        if let Some(moved) = self.numbers.get(at) {
            self.places[*moved as usize] = at as u32;
        }
        items.swap_remove(at)
    }

    /// Puts the items back into the order in which they came.
    pub(crate) fn in_order<T>(&mut self, items: Vec<T>) -> Vec<T> {
        if self.numbers.is_sorted() {
            return items;
        }
        let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
        let places = std::mem::take(&mut self.places);
        let left = places.iter().filter(|place| **place != GONE);
        let items = left.filter_map(|place| items.get_mut(*place as usize)?.take()).collect();
        self.numbers.sort_unstable();
        self.places = places;
        for (place, number) in self.numbers.iter().enumerate() {
            self.places[*number as usize] = place as u32;
        }
        items
    }

    fn item_of(&self, seat: u32) -> u32 {
        self.item_of.get(seat as usize).copied().unwrap_or(seat)
    }

    /// Puts what belongs to the items, in their order, to the numbers they have.
    pub(crate) fn by_number<X>(&self, of_items: Vec<X>) -> Vec<Option<X>> {
        if self.places.is_empty() {
            // In place, mostly: an `Option` of a result is no larger.
            return of_items.into_iter().map(Some).collect();
        }
        let mut all: Vec<Option<X>> = self.places.iter().map(|_| None).collect();
        for (number, one) in self.numbers.iter().zip(of_items) {
            all[*number as usize] = Some(one);
        }
        all
    }

    /// Gives each seat a copy of what its item has.
    pub(crate) fn by_seat<X: Clone>(&self, of_items: Vec<X>) -> Vec<Option<X>> {
        let all = self.by_number(of_items);
        if self.item_of.is_empty() {
            return all;
        }
        self.item_of.iter().map(|item| all.get(*item as usize).cloned().flatten()).collect()
    }
}

impl<T, W, B> Batch<T, W, B> {
    pub(crate) fn new(number: u64, block: B, deadline: Option<Instant>, room: usize) -> Self {
        Self {
            number,
            block,
            items: Vec::with_capacity(room),
            seats: Vec::with_capacity(room),
            seating: Seating::default(),
            deadline,
            due: false,
            weight: 0,
            removed: 0,
            given: 0,
            keys: None,
        }
    }

    /// Adds an item, and gives the number of its seat.
    #[inline(always)]
    pub(crate) fn push(&mut self, item: T, weight: u64, seat: Seat<W>) -> u32 {
        let (number, at) = (self.given, self.seats.len() as u32);
        self.given += 1;
        self.weight += weight;
        self.items.push(item);
        self.seats.push(seat);
        let seating = &mut self.seating;
        if !seating.places.is_empty() {
            seating.places.push(seating.numbers.len() as u32);
            seating.numbers.push(number);
        }
        if !seating.item_of.is_empty() {
            seating.item_of.push(number);
            seating.askers.push(1);
        }
        at
    }

    /// Seats another that asks for an item which is there.
    pub(crate) fn join(&mut self, number: u32, waker: W) -> u32 {
        let seating = &mut self.seating;
        if seating.item_of.is_empty() {
            seating.item_of.extend(0..self.given);
            seating.askers.resize(self.given as usize, 1);
        }
        let at = self.seats.len() as u32;
        seating.item_of.push(number);
        seating.askers[number as usize] += 1;
        self.seats.push(Seat::Asked(waker));
        at
    }

    /// Takes one off its seat, and its item out if nobody else asks for that.
    pub(crate) fn leave(&mut self, seat: u32, weight: u64) -> (Option<T>, Seat<W>) {
        let was = std::mem::replace(&mut self.seats[seat as usize], Seat::Gone);
        let number = self.seating.item_of(seat);
        if let Some(askers) = self.seating.askers.get_mut(number as usize) {
            *askers -= 1;
            if *askers > 0 && !mutant!("batch.first_asker_only") {
                return (None, was);
            }
        }
        let Some(mut at) = self.seating.position(number) else { return (None, was) };
        if mutant!("batch.remove_neighbour") {
            at = (at + 1) % self.items.len();
        }
        self.removed += 1;
        self.weight -= weight;
        (Some(self.seating.take_out(&mut self.items, at, self.given)), was)
    }

    /// The item with this hash of which `before` came before, if it is still there; `None` when there is no more.
    pub(crate) fn candidate(&self, hash: u64, before: u32) -> Option<(u32, Option<&T>)> {
        let number = *self.keys.as_ref()?.get(&(hash, before))?;
        Some((number, self.seating.position(number).and_then(|at| self.items.get(at))))
    }

    /// Notes the hash of the item that was added last.
    pub(crate) fn note_key(&mut self, hash: u64, before: u32) {
        self.keys.get_or_insert_default().insert((hash, before), self.given - 1);
    }
}
