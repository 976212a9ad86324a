//! The stable names of the planner's errors.
