"""GraphQL over HTTP and WebSocket, fast. Nothing in here knows what the schema is about.

documents   texts, parsed and validated once            errors      what a client may see of an error
engine      runs operations, encodes answers            variables   values of variables
compiler*   operations become plans and Python code     executor*   plans are run, resolvers awaited
lookahead   what is selected below a field              encoding    answers as JSON bytes
limits, cost, budget   what is refused before it runs   http, websocket, persisted   how requests arrive
"""
