package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
)

// The exit codes. They are part of the interface: see README.md.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotHeld     = 3
	exitInterrupted = 130
	exitTerminated  = 143
)

// errNotHeld is returned when a comparison, verification or gate does not hold.
var errNotHeld = errors.New("not held")

// errDiffer is errNotHeld for images that differ, which needs no more words.
var errDiffer = fmt.Errorf("the images differ: %w", errNotHeld)

// exitCode is the one place that maps errors to exit codes.
func exitCode(err error) int {
	var signal interrupted
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &signal) && signal.signal == syscall.SIGTERM:
		return exitTerminated
	case errors.As(err, &signal):
		return exitInterrupted
	case errors.As(err, new(*image.UsageError)):
		return exitUsage
	case errors.Is(err, errNotHeld):
		return exitNotHeld
	}
	return exitFailed
}

// printError prints an error and, where there is a remedy, a hint.
func printError(w io.Writer, err error) {
	if err == nil || errors.Is(err, errDiffer) {
		return
	}
	fmt.Fprintf(w, "slim: error: %s\n", visible(err.Error()))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "slim: hint: %s\n", visible(hint))
	}
}

// visible writes control characters as Go escapes: a message may hold what a
// registry or a library said. Lines stay, since errors come joined.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r != '\n' && unicode.IsControl(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hintOf(err error) string {
	var usage *image.UsageError
	var hinted *image.HintError
	switch {
	case errors.As(err, &usage):
		return usage.Hint
	case errors.As(err, &hinted):
		return hinted.Hint
	case errors.Is(err, syscall.ENOSPC) && !errors.Is(err, errWritten):
		return spaceHint(err)
	}
	return ""
}

// spaceHint tells a full temporary folder from a full target.
func spaceHint(err error) string {
	var file *fs.PathError
	if errors.As(err, &file) && strings.Contains(filepath.Base(file.Path), "slim-spool-") {
		return "--tmp-dir or TMPDIR names a folder with more space; the unpacked layers must fit"
	}
	return "make room where the target is written; nothing of it was left"
}

// nameLayer puts the number and digest of a layer before an error about it.
func nameLayer(img *image.Image, err error) error {
	n := -1
	var read *layer.Error
	var replay *flatten.LayerError
	switch {
	case errors.As(err, &read):
		n = read.Layer
	case errors.As(err, &replay):
		n = replay.Layer
	}
	if n < 0 || n >= len(img.Layers) {
		return err
	}
	return fmt.Errorf("%s: %w", layerName(img, n), err)
}

// layerName names a layer in messages, counting from 1.
func layerName(img *image.Image, n int) string {
	id := img.Layers[n].Digest
	if id.Hex == "" {
		id = img.Layers[n].DiffID
	}
	return fmt.Sprintf("layer %d (%s)", n+1, id)
}
