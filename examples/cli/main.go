// Command cli is the example of a program on somebody's machine: it signs its user in
// with the browser, or with a code where there is none, and keeps the tokens in a file
// that the operating system protects, so that the next command needs nobody.
//
//	go run ./examples/cli login
//	go run ./examples/cli token
//
// needs nothing installed: a local identity server comes with it. See the README
// beside this file for what to try, and for servers and accounts of one's own.
//
// # Reading the source
//
// What a program copies is in session.go, which opens the store, the cache and the
// client, in login.go, token.go and logout.go, which use them, and in failure.go, which
// has words for whatever goes wrong. The rest is the command line and the local server.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// How long a command may take unless --timeout says otherwise. A key store may ask for a
// password, and somebody who signs in may have to look for a telephone.
const (
	usualTimeout = 2 * time.Minute
	loginTimeout = 15 * time.Minute
)

// program is what the commands work with.
type program struct {
	*commandLine
	out io.Writer
	ui  *ui
}

// run is the whole program, but for signals. It prints what was asked for to stdout, and
// everything else to stderr, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &commandLine{}
	p := &program{commandLine: c, out: stdout, ui: &ui{w: stderr, json: slices.Contains(args, "--json")}}
	parser, helped := newParser(c, stdout, stderr)
	command, err := parser.Parse(withTwoDashes(parser, args))
	switch {
	case *helped:
		return exitOK
	case err != nil:
		return p.ui.fail(&failure{exit: exitUsage, code: "usage", what: err.Error(), hint: "Run with --help to see the commands and flags."})
	}
	p.ui.json, p.ui.quiet, p.ui.terminal = c.JSON, c.Quiet, isTerminal(stderr)
	if timeout := c.timeout(command.Command()); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(p); err != nil {
		return p.ui.fail(p.explain(ctx, err))
	}
	return exitOK
}

// timeout is how long a command may take; zero means forever.
func (c *commandLine) timeout(command string) time.Duration {
	switch {
	case command == "serve":
		return 0
	case c.Timeout > 0:
		return c.Timeout
	case command == "login":
		return loginTimeout
	}
	return usualTimeout
}

// print writes one line to standard output.
func (p *program) print(format string, a ...any) error {
	_, err := fmt.Fprintf(p.out, format+"\n", a...)
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// newParser makes the parser of the command line. It tells whether help was all that was
// wanted, in which case what Parse returns means nothing.
func newParser(c *commandLine, stdout, stderr io.Writer) (*kong.Kong, *bool) {
	helped := new(bool)
	parser := kong.Must(c, // an error is one in the tags of commandLine
		kong.Name("cli"),
		kong.Description("Signs in, and hands out access tokens, which it keeps for the next command."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { *helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.Help(func(o kong.HelpOptions, ctx *kong.Context) error {
			if err := kong.DefaultHelpPrinter(o, ctx); err != nil {
				return err
			}
			_, err := io.WriteString(ctx.Stdout, exitCodes)
			return err
		}),
	)
	return parser, helped
}
