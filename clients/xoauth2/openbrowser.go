//go:build !windows

package xoauth2

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
)

// openBrowser opens a URL in the system's browser. The program that does it may be the
// browser itself, which then runs until the user closes it: no context ends it. It
// gets no terminal, so that it neither asks there nor mixes with what is written.
func openBrowser(url string) error {
	programs := []string{"xdg-open", "x-www-browser"}
	if runtime.GOOS == "darwin" {
		programs = []string{"/usr/bin/open"}
	}
	for _, program := range programs {
		path, err := exec.LookPath(program)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := exec.CommandContext(context.Background(), path, url).Run(); err != nil { // #nosec G204 -- no shell
			return fmt.Errorf("%s: %w", program, err)
		}
		return nil
	}
	return fmt.Errorf("there is no %s: %w", strings.Join(programs, ", "), exec.ErrNotFound)
}
