//! Makes models small and fast.
