"""Results of a reproduction as they are stored: claims with their judgements, tables, and the data of figures."""
