"""The exam: how well families of pictures are read that training has never seen."""
