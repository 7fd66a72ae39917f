"""The script that everybody writes first: Keras as its documentation shows it, nothing tracked, nothing kept.

python benchmarks/bare_keras.py [784-128-10 | regularized | default | cnn] [--batch 128] [--epochs 5]
"""

import networks  # the arguments, the arrays, and how a time is told; no part of the training

arguments = networks.arguments(__doc__)

import keras
from keras import layers

(x_train, y_train), (x_test, y_test) = networks.mnist(arguments)

model = keras.Sequential([keras.Input((28, 28, 1))])
for filters in arguments.filters:
    penalty = keras.regularizers.L2(arguments.l2)
    model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_regularizer=penalty))
    model.add(layers.BatchNormalization())
    model.add(layers.Activation("relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Dropout(arguments.dropout / 2))
model.add(layers.Flatten())
for units in arguments.units:
    if arguments.regularized:
        model.add(layers.Dense(units, use_bias=False, kernel_regularizer=keras.regularizers.L2(arguments.l2)))
        model.add(layers.BatchNormalization())
        model.add(layers.Activation("relu"))
        model.add(layers.Dropout(arguments.dropout))
    else:
        model.add(layers.Dense(units, activation="relu"))
model.add(layers.Dense(10, activation="softmax"))
model.compile(optimizer=keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
clock = networks.Clock()
model.fit(
    x_train,
    y_train,
    batch_size=arguments.batch,
    epochs=arguments.epochs,
    verbose=0,
    callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: clock.epoch())],
)
print(f"test accuracy {model.evaluate(x_test, y_test, batch_size=1000, verbose=0)[1]:.4f}")
clock.report()
