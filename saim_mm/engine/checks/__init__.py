"""What is looked at before anything is built or trained."""
