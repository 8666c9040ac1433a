package image

// UsageError is a command line that cannot be carried out as it is written:
// a reference that does not parse, or one that selects nothing or too much.
type UsageError struct {
	// Msg says what is wrong, in the form of any error.
	Msg string
	// Hint says what to write instead; it may be empty.
	Hint string
}

func (e *UsageError) Error() string { return e.Msg }

// HintError is an error with a remedy. Every refusal of an image in this
// package that the user can do something about is one; find it with errors.As.
type HintError struct {
	Err error
	// Hint says what to do, in one sentence without a period.
	Hint string
}

func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *HintError) Unwrap() error { return e.Err }
