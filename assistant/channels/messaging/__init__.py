"""Messaging channels: WhatsApp, SMS, Messenger, Telegram and Slack by one set of rules."""
