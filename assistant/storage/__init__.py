"""What is kept: conversations, locks, ended sessions, all in one database."""
