"""The method: backbone, decoder, head, target, order."""
