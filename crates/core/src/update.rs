//! What a step does to the parameters: clipped gradients, decay, the optimiser's move,
//! and the copies of the parameters that some options keep.

use crate::Error;
use crate::decay::norm;
use crate::optimizer::{Move, Optimizer};
use crate::plan::Span;
use crate::train::Trainer;
use core::ops::Range;

impl Trainer<'_> {
    /// Takes the present parameters as the start: the decay's anchor, and the first
    /// value of their average; the optimiser forgets its state. [`Trainer::new`] and
    /// [`crate::train::fit`] do it.
    ///
    /// # Errors
    /// None after a sound plan.
    pub fn start_here(&mut self) -> Result<(), Error> {
        for copy in [self.plan.anchor, self.plan.average] {
            self.copy_parameters(copy)?;
        }
        self.steps = 0;
        self.arena.of(self.plan.state)?.fill(0.0);
        Ok(())
    }

    /// Copies the parameters to a span of their length, or does nothing where the plan
    /// has no such copy.
    fn copy_parameters(&mut self, to: Span) -> Result<(), Error> {
        if !to.range().is_empty() {
            let [from, to] = self.arena.split([self.plan.parameters, to])?;
            to.copy_from_slice(from);
        }
        Ok(())
    }

    /// Keeps the present parameters as the best so far.
    pub(crate) fn keep_best(&mut self) -> Result<(), Error> {
        self.copy_parameters(self.plan.best)
    }

    /// Goes back to the best parameters.
    pub(crate) fn take_best(&mut self) -> Result<(), Error> {
        self.take(self.plan.best)
    }

    /// Ends with the average of the parameters, where there is one.
    ///
    /// # Errors
    /// None after a sound plan.
    pub fn take_average(&mut self) -> Result<(), Error> {
        self.take(self.plan.average)
    }

    fn take(&mut self, from: Span) -> Result<(), Error> {
        if !from.range().is_empty() {
            let [from, to] = self.arena.split([from, self.plan.parameters])?;
            to.copy_from_slice(from);
        }
        Ok(())
    }

    /// Exchanges the parameters and their average, where there is one.
    pub(crate) fn swap_average(&mut self) -> Result<(), Error> {
        if !self.plan.average.range().is_empty() {
            let spans = [self.plan.average, self.plan.parameters];
            let [average, parameters] = self.arena.split(spans)?;
            average.swap_with_slice(parameters);
        }
        Ok(())
    }

    /// Shortens the gradients to the longest length allowed; refuses those that have none.
    pub(crate) fn clip_gradients(&mut self) -> Result<(), Error> {
        let Some(longest) = self.options.clip_norm else {
            return Ok(());
        };
        let gradients = self.arena.of(self.plan.gradients)?;
        let length = norm(gradients);
        if !length.is_finite() {
            return Err(Error::Diverged);
        }
        if length > longest {
            let factor = longest / length;
            gradients.iter_mut().for_each(|value| *value *= factor);
        }
        Ok(())
    }

    /// Takes the parameters into their running average. After t steps the memory is at
    /// most (1 + t) / (10 + t).
    pub(crate) fn average(&mut self) -> Result<(), Error> {
        let Some(memory) = self.options.average else {
            return Ok(());
        };
        let steps = self.steps as f32;
        let memory = memory.min((1.0 + steps) / (10.0 + steps));
        let spans = [self.plan.average, self.plan.parameters];
        let [average, parameters] = self.arena.split(spans)?;
        for (average, value) in average.iter_mut().zip(parameters) {
            *average = memory * *average + (1.0 - memory) * *value;
        }
        Ok(())
    }

    /// Moves the parameters along [`Self::gradients`], with the decay in force.
    ///
    /// # Errors
    /// None after a sound plan.
    pub fn apply(&mut self, learning_rate: f32) -> Result<(), Error> {
        self.steps += 1;
        let mut lambdas = self.lambdas.clone().into_iter();
        for layer in 0..self.network.layers().len() {
            let ranges = [self.network.weights(layer), self.network.biases(layer)];
            if ranges[0].is_empty() {
                continue;
            }
            // Batch norms are trained, but not decayed.
            let lambda = match self.network.fan_in(layer) {
                0 => 0.0,
                _ => lambdas.next().unwrap_or(0.0),
            };
            let learning_rate = if layer < self.options.slow_layers {
                learning_rate * self.options.slow_rate
            } else {
                learning_rate
            };
            for (range, lambda) in ranges.into_iter().zip([lambda, 0.0]) {
                let move_ = Move {
                    learning_rate,
                    lambda,
                    step: self.steps,
                };
                self.move_tensor(&range, &move_)?;
            }
        }
        Ok(())
    }

    fn move_tensor(&mut self, range: &Range<usize>, move_: &Move) -> Result<(), Error> {
        let optimizer = self.options.optimizer;
        let decoupled = matches!(optimizer, Optimizer::AdamW { .. });
        let anchored = self.options.anchored && move_.lambda != 0.0;
        if anchored && !decoupled {
            // lambda (w - w0) is part of the gradient: lambda w is added by the optimiser.
            self.add_anchor(range, self.plan.gradients, -move_.lambda)?;
        }
        let arrays = optimizer.state_arrays();
        let parameters = self.plan.parameters.range().len();
        let state = |array: usize| {
            let offset = array.min(arrays.saturating_sub(1)) * parameters;
            let range = offset + range.start..offset + range.end;
            self.plan
                .state
                .part(if array < arrays { range } else { 0..0 })
        };
        let [w, dw, first, second] = self.arena.split([
            self.plan.parameters.part(range.clone()),
            self.plan.gradients.part(range.clone()),
            state(0),
            state(1),
        ])?;
        optimizer.update(move_, w, dw, [first, second]);
        if anchored && decoupled {
            let share = move_.learning_rate * move_.lambda;
            self.add_anchor(range, self.plan.parameters, share)?;
        }
        Ok(())
    }

    /// Adds `factor` times the anchor to a part of `to`.
    fn add_anchor(&mut self, range: &Range<usize>, to: Span, factor: f32) -> Result<(), Error> {
        let anchor = self.plan.anchor.part(range.clone());
        let [anchor, to] = self.arena.split([anchor, to.part(range.clone())])?;
        for (value, anchor) in to.iter_mut().zip(anchor) {
            *value += factor * *anchor;
        }
        Ok(())
    }
}
