"""What requests and answers hold, as pydantic models. /openapi.json is made of them."""
