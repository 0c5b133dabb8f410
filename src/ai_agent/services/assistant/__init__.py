"""The assistant that an operator puts behind `POST /api/chat`; nothing here imports the SDK before `load`."""
