"""Commands about a planned run on a data set; ``forecast`` beside them takes single contexts too."""
