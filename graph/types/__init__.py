"""What the types of all entities are made of: scalars, enumerations, the interface Node."""
