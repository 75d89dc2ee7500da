use std::fmt;

use super::{End, Layer};
use crate::observe::Stats;
use crate::resilience::fallback::Fallback;
use crate::resilience::timeout::{Limited, Timeout};
use crate::resilience::{Hedge, PolicyKind, Retry, RetryBudget};
use crate::task::Name;

/// The policies of a pipeline and their settings, outermost first.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineDescription {
    name: Option<Name>,
    layers: Vec<PolicyDescription>,
}

/// A policy of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDescription {
    /// The kind of the policy.
    pub(crate) policy: PolicyKind,
    /// The settings of the policy.
    pub(crate) settings: Stats,
}

impl PipelineDescription {
    pub(crate) fn of(name: Option<&Name>, layers: &impl Describe) -> Self {
        let mut described = Vec::new();
        layers.describe(&mut described);
        Self { name: name.cloned(), layers: described }
    }

    /// The name of the pipeline, if it has one.
    pub(crate) fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// The policies, outermost first.
    pub(crate) fn layers(&self) -> &[PolicyDescription] {
        &self.layers
    }

    pub(super) fn into_policies(self) -> Vec<(PolicyKind, Stats)> {
        self.layers.into_iter().map(|layer| (layer.policy, layer.settings)).collect()
    }

    /// Returns remarks on an order of policies that is seldom intended; empty for most pipelines.
    pub(super) fn remarks(&self) -> Vec<&'static str> {
        let position = |policy| self.layers.iter().position(|layer| layer.policy == policy);
        let retries = self.layers.iter().filter(|layer| layer.policy == PolicyKind::Retry).count();
        let mut remarks = Vec::new();
        if retries > 1 {
            remarks.push("two retries multiply their attempts");
        }
        if let Some(retry) = position(PolicyKind::Retry) {
            if position(PolicyKind::CircuitBreaker).is_some_and(|breaker| breaker < retry) {
                remarks.push("a breaker around a retry counts a call once, even if several attempts fail");
            }
            if position(PolicyKind::Fallback).is_some_and(|fallback| fallback > retry) {
                remarks.push("a retry around a fallback sees the result of the fallback, not the failure");
            }
            let after = |layer: &PolicyDescription| {
                layer.policy == PolicyKind::Timeout
                    && layer.settings.iter().any(|(name, _)| name == "attempt")
            };
            if self.layers[..retry].iter().any(after) {
                remarks.push("an attempt timeout around a retry limits all its attempts together");
            }
        }
        remarks
    }
}

impl fmt::Display for PipelineDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}: ")?;
        }
        if self.layers.is_empty() {
            return f.write_str("no policies");
        }
        for (at, layer) in self.layers.iter().enumerate() {
            if at > 0 {
                f.write_str(" > ")?;
            }
            layer.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for PolicyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policy.fmt(f)?;
        let mut open = " (";
        for (name, value) in self.settings.iter() {
            write!(f, "{open}{name}")?;
            let value = value.to_string();
            if !value.is_empty() {
                write!(f, " {value}")?;
            }
            open = ", ";
        }
        if open == ", " { f.write_str(")") } else { Ok(()) }
    }
}

/// Layers that can describe themselves.
pub trait Describe {
    /// Appends the descriptions of the layers.
    fn describe(&self, layers: &mut Vec<PolicyDescription>);
}

/// A policy that can describe itself.
pub trait DescribePolicy {
    /// The kind of the policy.
    fn policy(&self) -> PolicyKind;
    /// The settings of the policy.
    fn settings(&self) -> Stats;
}

impl Describe for End {
    fn describe(&self, _: &mut Vec<PolicyDescription>) {}
}

impl<P: DescribePolicy, Inner: Describe> Describe for Layer<P, Inner> {
    fn describe(&self, layers: &mut Vec<PolicyDescription>) {
        let (policy, settings) = (self.policy.policy(), self.policy.settings());
        layers.push(PolicyDescription { policy, settings });
        self.inner.describe(layers);
    }
}

impl DescribePolicy for Timeout {
    fn policy(&self) -> PolicyKind {
        PolicyKind::Timeout
    }

    fn settings(&self) -> Stats {
        let limited = match self.limited {
            Limited::Total => "total",
            Limited::Attempt => "attempt",
        };
        Stats::new().text(limited, "").text("within", format!("{:?}", self.within))
    }
}

impl DescribePolicy for Retry {
    fn policy(&self) -> PolicyKind {
        PolicyKind::Retry
    }

    fn settings(&self) -> Stats {
        let (first, last) = (self.backoff.ceiling(0), self.backoff.ceiling(u32::MAX));
        let mut settings = Stats::new()
            .count("attempts", self.attempts.into())
            .text(
                "delays",
                if first == last { format!("{first:?}") } else { format!("{first:?} to {last:?}") },
            )
            .text("budget", budget(self.budget.as_ref()));
        if let Some(within) = self.timeout {
            settings = settings.text("within", format!("{within:?}"));
        }
        if let Some(within) = self.attempt_timeout {
            settings = settings.text("each within", format!("{within:?}"));
        }
        if self.rejected {
            settings = settings.text("retries rejections", "");
        }
        settings
    }
}

impl DescribePolicy for Hedge {
    fn policy(&self) -> PolicyKind {
        PolicyKind::Hedge
    }

    fn settings(&self) -> Stats {
        let delay = self.fixed().map_or_else(|| "a computed delay".to_owned(), |d| format!("{d:?}"));
        Stats::new()
            .text("after", delay)
            .count("extra", self.extra.into())
            .text("budget", budget(self.budget.as_ref()))
    }
}

impl<F> DescribePolicy for Fallback<F> {
    fn policy(&self) -> PolicyKind {
        PolicyKind::Fallback
    }

    fn settings(&self) -> Stats {
        Stats::new()
    }
}

fn budget(budget: Option<&RetryBudget>) -> String {
    match budget.map(RetryBudget::rates) {
        Some((ratio, floor)) => format!("{} % and {floor} a second", ratio * 100.0),
        None => "none".to_owned(),
    }
}
