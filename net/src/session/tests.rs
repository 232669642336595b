mod flow;
mod hostile;
mod pair;
mod time;
