//! SCRAM exchanges as state machines: the server towards clients, the client towards the database.
