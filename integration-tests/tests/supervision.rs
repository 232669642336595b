//! Threads that die or hang, and what becomes of their items.
