//! One file a layer, forward and backward side by side. Each works on slices
//! that the caller has cut from the arena; shapes were checked by the plan.

pub(crate) mod dense;
pub(crate) mod relu;
