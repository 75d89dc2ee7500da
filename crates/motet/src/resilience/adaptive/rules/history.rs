use std::collections::VecDeque;

/// As failsafe-go.
const KEPT: usize = 50;

/// What the last windows saw: whether more calls under way brought more of them through, or only took longer.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Seen>);

/// What one window saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) in_flight: f64,
    pub(super) time: f64,
}

impl Seen {
    /// Calls per time, by Little's law.
    fn throughput(&self) -> f64 {
        self.in_flight / self.time
    }
}

impl History {
    pub(super) fn add(&mut self, seen: Seen) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(seen);
    }

    /// Whether calls only queue: more of them under way take longer and bring no more through.
    pub(super) fn queues(&self) -> bool {
        // Fewer say nothing.
        if self.0.len() < 5 {
            return false;
        }
        let more_through = self.correlation(Seen::throughput);
        let longer = self.correlation(|seen| seen.time);
        more_through < 0.0 || longer > 0.5 && (more_through < 0.3 || self.variation() < 0.2)
    }

    /// How a value goes with the calls under way, from -1 to 1; 0 where one of the two stands still
    /// (Pearson's).
    fn correlation(&self, of: impl Fn(&Seen) -> f64) -> f64 {
        let (x, y) = (self.mean(|seen| seen.in_flight), self.mean(&of));
        let sum = |f: &dyn Fn(&Seen) -> f64| self.0.iter().map(f).sum::<f64>();
        let both = sum(&|seen| (seen.in_flight - x) * (of(seen) - y));
        let squares = sum(&|seen| (seen.in_flight - x).powi(2)) * sum(&|seen| (of(seen) - y).powi(2));
        if squares > 0.0 { both / squares.sqrt() } else { 0.0 }
    }

    /// How much the throughput varies: its standard deviation as a part of its mean.
    fn variation(&self) -> f64 {
        let mean = self.mean(Seen::throughput);
        let variance = self.mean(|seen| (seen.throughput() - mean).powi(2));
        variance.sqrt() / mean
    }

    fn mean(&self, of: impl Fn(&Seen) -> f64) -> f64 {
        self.0.iter().map(of).sum::<f64>() / self.0.len() as f64
    }
}
