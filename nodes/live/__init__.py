"""Live: the node, the session that it shares with a client, and the websocket of the client."""
