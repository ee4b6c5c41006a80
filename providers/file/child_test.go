package file_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// What this test binary does as another process, by the value of childVariable.
const childVariable = "COATCHECK_FILE_CHILD"

var children = map[string]func(){
	"count": childCounts,
	"write": childWrites,
	"use":   childUses,
	"read":  childReads,
	"last":  childLast,
}

const (
	dirVariable    = "COATCHECK_FILE_DIR"
	numberVariable = "COATCHECK_FILE_NUMBER"
	phraseVariable = "COATCHECK_FILE_PHRASE"
	plainVariable  = "COATCHECK_FILE_PLAIN"
)

// child returns a command that runs this binary as such a process.
func child(ctx context.Context, what, dir string, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0]) // #nosec G204,G702 -- this test
	cmd.Env = append(os.Environ(), childVariable+"="+what, dirVariable+"="+dir)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// run runs it, and returns what it has said.
func run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return strings.TrimSpace(out.String())
}

func childOptions() *file.Options {
	o := &file.Options{Dir: os.Getenv(dirVariable), AllowUnencryptedStorage: os.Getenv(plainVariable) != ""}
	if phrase := os.Getenv(phraseVariable); phrase != "" {
		o.Passphrase = func(context.Context) ([]byte, error) { return []byte(phrase), nil }
	}
	return o
}

func childMust(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// childReads says what the file has, as it is on the disk.
func childReads() {
	b, err := os.ReadFile(filepath.Join(os.Getenv(dirVariable), "default.tokens"))
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println("read", len(b))
}

// childUses saves one more record than there is, and says how many there were and what
// was saved last before a kill, or what is wrong.
func childUses() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	p, err := file.Open(ctx, childOptions())
	if err == nil {
		var names []tokencache.Name
		names, _, err = p.Names(ctx, "")
		if err == nil {
			fmt.Println("had", len(names))
			if len(names) > 0 {
				_, err = p.Load(ctx, names[0])
			}
			err = errors.Join(err, p.Save(ctx, name(strconv.Itoa(len(names))), record("marker-child"), tokencache.Condition{}))
		}
	}
	if err != nil {
		fmt.Println("error:", err)
	}
}

// childCounts adds one to a record, as often as it is told to.
func childCounts() {
	ctx := context.Background()
	p, err := file.Open(ctx, childOptions())
	childMust(err)
	times, err := strconv.Atoi(os.Getenv(numberVariable))
	childMust(err)
	for range times {
		for {
			err := addOne(ctx, p)
			if err == nil {
				break
			}
			if !errors.Is(err, tokencache.ErrConflict) {
				childMust(err)
			}
		}
	}
}

// addOne reads the number under a name, and writes the next one if it is still that.
func addOne(ctx context.Context, p tokencache.Provider) error {
	r, err := p.Load(ctx, name("number"))
	cond := tokencache.IfVersion(r.Version)
	number := 0
	if errors.Is(err, tokencache.ErrNotFound) {
		cond = tokencache.Condition{}
	} else if err != nil {
		return err
	} else if number, err = strconv.Atoi(string(r.Sealed)); err != nil {
		return err
	}
	return p.Save(ctx, name("number"), record(strconv.Itoa(number+1)), cond)
}

// childLast says what was saved last, and saves something else.
func childLast() {
	ctx := context.Background()
	p, err := file.Open(ctx, childOptions())
	childMust(err)
	r, err := p.Load(ctx, name("last"))
	childMust(err)
	childMust(p.Save(ctx, name("other"), record("marker-other"), always))
	text, _, _ := strings.Cut(string(r.Sealed), " ")
	fmt.Println(text)
}

// childWrites saves until it is killed, and says after each save which one it was.
func childWrites() {
	ctx := context.Background()
	p, err := file.Open(ctx, childOptions())
	childMust(err)
	number, err := strconv.Atoi(os.Getenv(numberVariable))
	childMust(err)
	padding := strings.Repeat("x", 20<<10)
	for ; ; number++ {
		childMust(p.Save(ctx, name("last"), record(fmt.Sprint(number, " ", padding)), always))
		fmt.Println(number)
	}
}
