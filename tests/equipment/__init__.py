"""
What the folders of tests share: a module for each thing that a test works with.

=============  =====================================================================
``site``       One managed database on a real server, with all that a test does to it
``fakes``      AWS's answers, at the one seam that the core asks AWS through
``histories``  The history that the tests run on, and revisions of a test's own
``strangers``  Our tests, with a stranger's migrations deployed
``mixtures``   Revisions of all that ends a transaction, drawn by chance
``shadows``    A database where a stranger has something of his own behind each name
``single``     One PostgreSQL, for tests of what is the same on each
``world``      A real server, a small AWS and the function in a process of its own
``small_aws``  AWS on a port: the calls that the function makes, and no more
``container``  The function, warm: forked for each call, so that it can be killed
``preloaded``  Commands in processes that have others' libraries already
``pair``       Two servers of one database, of which the second follows the first
``proxy``      An endpoint that leads to another server, hangs, or loses what is sent
``waiting``    Waits until what another process does is seen
``documents``  The project's documents, read as those read them who follow them
``sources``    Our own modules, parsed once for all tests that look at them
``local_aws``  The fixtures of the whole local AWS
=============  =====================================================================
"""
