"""The pages behind the chat: for those who answer requests and for those who write the content."""
