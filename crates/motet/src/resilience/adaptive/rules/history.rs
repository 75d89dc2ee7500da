use std::collections::VecDeque;

/// The number of windows that are kept, as in failsafe-go.
const KEPT: usize = 50;

/// The last windows: they show whether more calls in flight increased the throughput, or only took longer.
#[derive(Debug, Default)]
pub(super) struct WindowHistory(VecDeque<WindowSample>);

/// The figures of one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowSample {
    pub(super) in_flight: f64,
    pub(super) time: f64,
}

impl WindowSample {
    /// Returns the calls per unit of time, by Little's law.
    fn throughput(&self) -> f64 {
        self.in_flight / self.time
    }
}

impl WindowHistory {
    pub(super) fn add(&mut self, seen: WindowSample) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(seen);
    }

    /// Returns `true` if calls only queue: more calls in flight take longer, and the throughput does not grow.
    pub(super) fn queues(&self) -> bool {
        // Fewer windows show no trend.
        if self.0.len() < 5 {
            return false;
        }
        let more_through = self.correlation(WindowSample::throughput);
        let longer = self.correlation(|seen| seen.time);
        more_through < 0.0 || longer > 0.5 && (more_through < 0.3 || self.variation() < 0.2)
    }

    /// Returns the correlation (Pearson's) of a value with the calls in flight, from -1 to 1; 0 if one of the two is
    /// constant.
    fn correlation(&self, of: impl Fn(&WindowSample) -> f64) -> f64 {
        let (x, y) = (self.mean(|seen| seen.in_flight), self.mean(&of));
        let sum = |f: &dyn Fn(&WindowSample) -> f64| self.0.iter().map(f).sum::<f64>();
        let both = sum(&|seen| (seen.in_flight - x) * (of(seen) - y));
        let squares = sum(&|seen| (seen.in_flight - x).powi(2)) * sum(&|seen| (of(seen) - y).powi(2));
        if squares > 0.0 { both / squares.sqrt() } else { 0.0 }
    }

    /// Returns the variation of the throughput: its standard deviation as a share of its mean.
    fn variation(&self) -> f64 {
        let mean = self.mean(WindowSample::throughput);
        let variance = self.mean(|seen| (seen.throughput() - mean).powi(2));
        variance.sqrt() / mean
    }

    fn mean(&self, of: impl Fn(&WindowSample) -> f64) -> f64 {
        self.0.iter().map(of).sum::<f64>() / self.0.len() as f64
    }
}
