package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestReadme: what the README says of exit codes is what --help says, its commands parse,
// and its words are the program's.
func TestReadme(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, m := range regexp.MustCompile(`(?m)^  (\d+) +(\S.+)$`).FindAllStringSubmatch(exitCodes, -1) {
		meaning := strings.TrimSuffix(m[2], " (login)")
		if !strings.Contains(text, "\n| "+m[1]+" | "+meaning) {
			t.Errorf("the README does not say that %s is %q", m[1], meaning)
		}
	}
	commands := regexp.MustCompile(`(?:\$ |\(|ples/)cli ([a-z][^;)\n]*)`).FindAllStringSubmatch(text, -1)
	if len(commands) < 8 {
		t.Fatalf("only %d commands", len(commands))
	}
	for _, m := range commands {
		parser, _ := newParser(&commandLine{}, os.Stdout, os.Stderr)
		if _, err := parser.Parse(strings.Fields(m[1])); err != nil {
			t.Errorf("%q: %v", m[1], err)
		}
	}
	for _, line := range []string{
		"cli: Several accounts are signed in.\n     Choose one with --account: ada@contoso.test, bob@contoso.test.\n", // accounts.txtar
		"cli: The server has ended the sign-in: it has expired, or was revoked.\n     " + hintLogin + "\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the README does not have %q", line)
		}
	}
}
