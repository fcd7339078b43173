"""Plants faults, and shows that the features alone notice each: a proxy that errs, and steps that do nothing."""
