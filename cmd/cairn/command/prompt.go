package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// confirm asks a question on the terminal and reports whether the answer is yes. No answer
// is no.
func (p *Program) confirm(ctx context.Context, question string) (bool, error) {
	fmt.Fprint(p.Stderr, question+"? [y/N] ")
	answer, err := readLine(ctx, p.Stdin)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	answer = strings.ToLower(answer)
	return answer == "y" || answer == "yes", err
}

// readLine reads a line from a terminal, without spaces around it. It returns early
// if the context ends.
func readLine(ctx context.Context, in *os.File) (string, error) {
	text, err := interruptibleRead(ctx, func() (string, error) { return bufio.NewReader(in).ReadString('\n') })
	return strings.TrimSpace(text), err
}

// readSecret reads a line from a terminal without echo.
func readSecret(ctx context.Context, in *os.File, out io.Writer, prompt string) (string, error) {
	fd := int(in.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	defer fmt.Fprintln(out)
	defer term.Restore(fd, state) // a signal interrupts ReadPassword without echo
	disableEcho(fd)
	fmt.Fprint(out, prompt)
	return interruptibleRead(ctx, func() (string, error) {
		b, err := term.ReadPassword(fd)
		return string(b), err
	})
}

// disableEcho disables the echo of a terminal before the prompt appears, so that
// typing ahead of ReadPassword is not visible.
func disableEcho(fd int) {
	if t, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		t.Lflag &^= unix.ECHO
		unix.IoctlSetTermios(fd, unix.TCSETS, t)
	}
}

// interruptibleRead calls read and returns its result, or the cause of the context's
// end. In the latter case read goes on in the background.
func interruptibleRead(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	c := make(chan result, 1)
	go func() {
		text, err := read()
		c <- result{text, err}
	}()
	select {
	case r := <-c:
		return r.text, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
