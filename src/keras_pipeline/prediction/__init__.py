"""`keras-pipeline predict`: what a trained network says of new pictures, arrays or rows. Open first: `predict`."""
