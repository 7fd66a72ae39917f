"""The page to draw on, and pictures in the form that a network takes. Its scripts are classic ones, without a build.

index.html is where it begins, page.js what it does, backends.js where answers come from; preprocess.js and `pictures`
are the same in two languages. Open first: `files`.
"""
