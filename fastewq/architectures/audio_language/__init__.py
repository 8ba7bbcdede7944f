"""Language models that hear or speak; those that see as well are here, too."""
