"""What is right: the rules of single values, the forms of settings, and the errors that say what is wrong."""
