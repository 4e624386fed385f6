"""
A folder of migrations, tried on real servers as a team's CI does it: ``make test-migrations``.

``__main__``   the command: which servers, and what is printed
``files``      what the files say, before any server is asked
``proofs``     what must hold of each revision, and of all of them together, on one server
``servers``    the servers, each in a process of its own
``golden``     what they leave in the catalogue, on file for review
``catalogue``  roles, objects and privileges of a server, as lines of text
``database``   one database on a real server, which runs are carried out on
``cloud``      AWS's answers about it, kept in memory
"""
