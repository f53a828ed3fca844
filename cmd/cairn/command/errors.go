package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/option"
)

// UsageError is an error in the command line or the environment.
type UsageError struct{ err error }

func (e *UsageError) Error() string { return e.err.Error() }
func (e *UsageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &UsageError{fmt.Errorf(format, args...)}
}

// StatusError ends the program with an exit status. Its message has been printed
// already.
type StatusError struct{ Code int }

func (e *StatusError) Error() string { return fmt.Sprintf("exit status %d", e.Code) }

// SignalError is the end of a command by a signal.
type SignalError struct{ Signal syscall.Signal }

func (e *SignalError) Error() string { return "stopped by " + unix.SignalName(e.Signal) }

// Status returns the exit status that shells use for a command killed by the signal.
func (e *SignalError) Status() int { return 128 + int(e.Signal) }

// cause returns the signal that ended the context, if there was one, in place of
// the error that it led to.
func cause(ctx context.Context, err error) error {
	if end := context.Cause(ctx); err != nil && end != nil {
		return end
	}
	return err
}

// flagError rewrites errors of pflag and suggests the flag that was probably meant.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		err = fmt.Errorf("unknown flag: --%s", unknown.GetSpecifiedName())
		if guess := dockerfile.Suggest(unknown.GetSpecifiedName(), names); guess != "" {
			err = fmt.Errorf("%w (did you mean --%s?)", err, guess)
		}
	case errors.As(err, &unknown):
		err = fmt.Errorf("unknown flag: -%s", unknown.GetSpecifiedName())
	case errors.As(err, &missing):
		kind, _ := pflag.UnquoteUsage(missing.GetFlag())
		err = fmt.Errorf("flag needs an argument: --%s %s", missing.GetFlag().Name, kind)
	case errors.As(err, &invalid):
		name, value := invalid.GetFlag().Name, invalid.GetValue()
		if strings.HasPrefix(name, "cache-") {
			value = option.RedactCache(value)
		}
		err = fmt.Errorf("--%s %q: %w", name, value, withoutStrconv(invalid.Unwrap()))
	}
	return &UsageError{err}
}

// withoutStrconv removes the name of the function that failed to parse a number.
func withoutStrconv(err error) error {
	if text, ok := strings.CutPrefix(err.Error(), "strconv."); ok {
		_, text, _ = strings.Cut(text, "\": ")
		return errors.New("want a number: " + text)
	}
	return err
}

// Line returns the error's text in one line. Cobra's errors have several.
func Line(err error) string {
	if _, set, ok := strings.Cut(err.Error(), " are set none of the others can be; ["); ok {
		set, _, _ = strings.Cut(set, "]")
		return "--" + strings.ReplaceAll(set, " ", " and --") + " exclude each other"
	}
	text, guess, ok := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if names := strings.Fields(guess); ok && len(names) > 0 {
		text += " (did you mean " + strings.Join(names, " or ") + "?)"
	}
	return text
}
