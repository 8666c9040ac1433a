// Command slim rewrites container images: it replays their layers, removes junk
// and squashes them, whole or above a base that stays shared.
//
// The way of the data is in squash.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"slim/internal/image"
)

func main() {
	os.Exit(run(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// stdio are the streams of a run.
type stdio struct {
	in       *os.File
	out, err io.Writer
}

// command is one word after "slim".
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, s stdio) error
}

var commands = []command{
	{"squash", "rewrite an image", squashCommand},
	{"diff", "compare two images: filesystem and config", diffCommand},
	{"rules", "list the rule presets, their patterns and reasons", rulesCommand},
	{"version", "print the version", versionCommand},
}

// memoryLimit makes the garbage collector work harder long before 256 MB; it is
// soft, and GOMEMLIMIT overrides it.
const memoryLimit = 192 << 20

// run runs a command and returns the exit code of the process.
func run(args []string, s stdio) int {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := notify()
	defer stop()
	err := dispatch(ctx, args, s)
	// A cancelled run fails in many ways; the signal is what the user asked for.
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	printError(s.err, err)
	return exitCode(err)
}

func dispatch(ctx context.Context, args []string, s stdio) error {
	if len(args) == 0 {
		fmt.Fprint(s.err, usage())
		return &image.UsageError{Msg: "no command given"}
	}
	switch args[0] {
	case "-h", "--help", "help":
		_, err := fmt.Fprint(s.out, usage())
		return err
	case "--version":
		return versionCommand(ctx, nil, s)
	}
	for _, c := range commands {
		if c.name == args[0] {
			return c.run(ctx, args[1:], s)
		}
	}
	return &image.UsageError{Msg: fmt.Sprintf("unknown command %q", args[0]), Hint: "slim --help lists the commands"}
}

func usage() string {
	text := "slim rewrites container images: squash their layers, remove junk, keep the base shared.\n\nUsage:\n  slim COMMAND [flags] [arguments]\n\nCommands:\n"
	for _, c := range commands {
		text += fmt.Sprintf("  %-8s %s\n", c.name, c.summary)
	}
	return text + "\nslim COMMAND --help tells more about a command.\n"
}

// parseFlags parses the flags of a command; help is true when they asked for it
// and it was printed.
func parseFlags(fs *pflag.FlagSet, args []string, out io.Writer, help string) (helped bool, err error) {
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		nameValues(fs)
		// A blank before HOST would make it an argument.
		flags := strings.Replace(fs.FlagUsagesWrapped(96), "--insecure HOST[=*]", "--insecure[=HOST]  ", 1)
		_, err := fmt.Fprintf(out, "%s\nFlags:\n%s", help, flags)
		return true, err
	case err != nil:
		return false, &image.UsageError{Msg: conversion.ReplaceAllString(err.Error(), ""), Hint: fmt.Sprintf("slim %s --help lists the flags", fs.Name())}
	}
	return false, nil
}

// conversion is what the parser of numbers adds to an error about a value.
var conversion = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `)

// nameValues takes the names of flags' values from usages such as "MODE|what it does".
func nameValues(fs *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) {
		name, usage, ok := strings.Cut(f.Usage, "|")
		if !ok {
			return
		}
		f.Value, f.Usage = namedValue{f.Value, name}, usage
		if f.DefValue == "[]" {
			f.DefValue = ""
		}
	})
}

// namedValue is a flag's value with a name for help.
type namedValue struct {
	pflag.Value
	name string
}

// Type implements pflag.Value.
func (n namedValue) Type() string { return n.name }

// interrupted is the cause of a context that a signal cancelled.
type interrupted struct{ signal syscall.Signal }

func (i interrupted) Error() string {
	if i.signal == syscall.SIGTERM {
		return "terminated"
	}
	return "interrupted"
}

// notify returns a context that SIGINT and SIGTERM cancel; a second signal ends
// the process at once.
func notify() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel(interrupted{s.(syscall.Signal)})
			signal.Stop(signals)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
