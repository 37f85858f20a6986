"""The contact form: a short request to the office, taken in six steps.

`steps` names them, `reading` understands a message in the light of the step, `validate` decides,
`ask` words the next question, `finish` sends or drops the request.
"""
