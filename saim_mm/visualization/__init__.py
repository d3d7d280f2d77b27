"""Pictures of what a model predicts and looks at."""
