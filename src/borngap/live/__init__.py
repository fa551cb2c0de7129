"""Live forecasts: where the watched words of a run will stand at its end, foretold while it goes on."""
