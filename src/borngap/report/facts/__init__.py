"""What a report is made from, and one record for each thing that it tells of."""
