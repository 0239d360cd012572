"""The exam: measures training on families of pictures that it was not developed for."""
