"""Labels from elsewhere, as they are unzipped: which tool's layout a folder has, and what it holds.

`recognition.recognise(path)` names the layout, `recognition.count` what is in it, and
`Layout.pictures()` gives each picture with its boxes, classes and captions, whatever tool wrote it.
"""
