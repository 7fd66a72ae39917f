"""The bytes of a body as raw inputs of a network, or a refusal that says what is wrong. Open first: `numbers`."""
