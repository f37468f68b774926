"""The Prediction Engine: a process of its own that holds models and answers requests in batches.

The way of a request, from top to bottom:

    server     reads frames from the gateway's socket, and writes the replies of one batch together
    batcher    keeps a queue for each model, and bounds its batches by the model's pace
    batch      answers the requests of one batch: read, encode, run the network, write
    predict    what `POST ...:predict` sends, read as rows        inputs, tensors    what the Open Inference Protocol sends
    rows       rows to arrays, in bulk, to the bit as the model's encoder does one by one
    answers    outputs to answers, written as JSON                outputs   ... as the Open Inference Protocol wants them
    models     which models are loaded, and what they weigh
    failures   what is said when there is no answer
    parent     ends the engine when the process that started it is gone
"""
