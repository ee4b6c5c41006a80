package testserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// postgresUser is the superuser of every server.
const postgresUser = "coatcheck"

// postgresPlaces are where the programs are if not on the PATH: Debian, Red Hat,
// and Homebrew on both kinds of Mac.
var postgresPlaces = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
}

// postgresPrograms is the directory of postgres and initdb.
func postgresPrograms() (string, error) {
	var found []string
	if program, err := exec.LookPath("postgres"); err == nil {
		if program, err = filepath.EvalSymlinks(program); err == nil {
			found = append(found, filepath.Dir(program))
		}
	}
	for _, place := range postgresPlaces {
		dirs, _ := filepath.Glob(place) // the patterns are good
		slices.SortFunc(dirs, newestFirst)
		found = append(found, dirs...)
	}
	for _, dir := range found {
		if isProgram(filepath.Join(dir, "postgres")) && isProgram(filepath.Join(dir, "initdb")) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("testserver: postgres with initdb: %w", exec.ErrNotFound)
}

// newestFirst compares paths that differ in a version: 9.6 is older than 15.
func newestFirst(a, b string) int {
	return slices.Compare(numbersIn(b), numbersIn(a))
}

func numbersIn(path string) (numbers []int) {
	for _, digits := range strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(digits) // the largest one if it is too large
		numbers = append(numbers, n)
	}
	return numbers
}

func isProgram(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}

// postgresTemplate is a new data directory as initdb makes it, which takes a
// second. It is kept in memory: nothing removes a directory when a process ends.
type postgresTemplate struct {
	programs string
	account  account
	password string
	files    []templateFile // a directory comes before what is in it
}

type templateFile struct {
	name string // below the data directory
	mode fs.FileMode
	size int64
	data []byte // without the zeros at the end
}

var templates struct {
	sync.Mutex
	made *postgresTemplate
}

// templateOf runs initdb the first time.
func templateOf() (*postgresTemplate, error) {
	programs, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	who, err := serverAccount()
	if err != nil {
		return nil, err
	}
	templates.Lock()
	defer templates.Unlock()
	if t := templates.made; t != nil && t.programs == programs && t.account == who {
		return t, nil
	}
	t := &postgresTemplate{programs: programs, account: who, password: "marker-" + rand.Text()}
	dir, err := t.privateDir()
	if err != nil {
		return nil, err
	}
	err = t.initialize(dir)
	if err == nil {
		err = t.read(filepath.Join(dir, "data"))
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return nil, fmt.Errorf("testserver: a new data directory: %w", err)
	}
	templates.made = t
	return t, nil
}

// privateDir makes a directory for a server. If that runs as somebody else, it
// stays ours, so that no other program of that user can put links where we write;
// and the server can pass through it to what it is given.
func (t *postgresTemplate) privateDir() (string, error) {
	parent, err := filepath.EvalSymlinks(os.TempDir())
	if err == nil && t.account.other && !passable(parent) {
		parent = "/tmp" // the usual place is one that only we can enter
		if !passable(parent) {
			err = errors.New("testserver: the user that PostgreSQL runs as cannot enter the directory for temporary files")
		}
	}
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(parent, "coatcheck-postgres-")
	if err == nil && t.account.other {
		err = os.Chmod(dir, 0o711) //nolint:gosec // it has nothing to be seen
	}
	if err != nil {
		return "", fmt.Errorf("testserver: %w", err)
	}
	return dir, nil
}

// passable tells whether everybody can pass through a directory and those above.
func passable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// initialize has initdb fill the directory "data".
func (t *postgresTemplate) initialize(dir string) error {
	data, secret := filepath.Join(dir, "data"), filepath.Join(dir, "password")
	err := errors.Join(
		os.Mkdir(data, 0o700), t.account.own(data),
		os.WriteFile(secret, []byte(t.password+"\n"), 0o600), t.account.own(secret))
	if err != nil {
		return err
	}
	return t.run(dir, nil, "initdb", "--pgdata="+data, "--username="+postgresUser, "--pwfile="+secret,
		"--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions")
}

// copyFrom has pg_basebackup fill the directory "data" from the server at a port,
// as a standby of that, with the password.
func (t *postgresTemplate) copyFrom(dir, port string) error {
	data := filepath.Join(dir, "data")
	if err := errors.Join(os.Mkdir(data, 0o700), t.account.own(data)); err != nil {
		return err
	}
	return t.run(dir, []string{"PGPASSWORD=" + t.password}, "pg_basebackup", "--pgdata="+data, "--no-sync",
		"--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-password",
		"--host="+loopback, "--port="+port, "--username="+postgresUser)
}

// run waits for the end of a program.
func (t *postgresTemplate) run(dir string, environment []string, program string, args ...string) error {
	log, err := createLog(dir)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := t.command(dir, log, program, args...)
	cmd.Env = append(cmd.Env, environment...)
	proc, err := startCommand(cmd)
	if err != nil {
		return err
	}
	select {
	case <-proc.exited:
	case <-time.After(groupLimit):
		return errors.Join(explainLog(program, "does not end", log.Name(), t.password), proc.killFamily())
	}
	if !proc.cmd.ProcessState.Success() {
		return explainLog(program, "failed", log.Name(), t.password)
	}
	return nil
}

// createLog makes the file that a program prints to. Others may know its name.
func createLog(dir string) (*os.File, error) {
	//nolint:gosec // in a directory of our own
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("testserver: %w", err)
	}
	return log, nil
}

// command makes one of PostgreSQL's, free of settings from our environment, in a
// language that we understand.
func (t *postgresTemplate) command(dir string, output *os.File, program string, args ...string) *exec.Cmd {
	//nolint:gosec // programs are named by this package
	cmd := exec.CommandContext(context.Background(), filepath.Join(t.programs, program), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, output, output
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") })
	cmd.Env = append(cmd.Env, "LC_ALL=C", "TZ=UTC")
	t.account.command(cmd)
	return cmd
}

// read takes all files into memory: those that are the same only once, as the
// three databases of a new server are, and without the zeros of an empty log.
func (t *postgresTemplate) read(data string) error {
	seen := make(map[[sha256.Size]byte][]byte)
	return filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		f := templateFile{name: name, mode: info.Mode(), size: info.Size()}
		if f.mode.IsRegular() {
			content, err := os.ReadFile(path) //nolint:gosec // initdb made it just now
			if err != nil {
				return err
			}
			sum := sha256.Sum256(content)
			if seen[sum] == nil {
				seen[sum] = bytes.Clone(bytes.TrimRight(content, "\x00"))
			}
			f.data = seen[sum]
		} else if !f.mode.IsDir() {
			return fmt.Errorf("%s is neither a file nor a directory", name)
		}
		t.files = append(t.files, f)
		return nil
	})
}

// write makes the directory "data" as initdb did. It belongs to us until
// everything is there.
func (t *postgresTemplate) write(dir string) error {
	data := filepath.Join(dir, "data")
	for _, f := range t.files {
		if err := f.write(filepath.Join(data, f.name)); err != nil {
			return fmt.Errorf("testserver: %w", err)
		}
	}
	for _, f := range slices.Backward(t.files) {
		if err := t.account.own(filepath.Join(data, f.name)); err != nil {
			return fmt.Errorf("testserver: %w", err)
		}
	}
	return nil
}

func (f templateFile) write(path string) error {
	if f.mode.IsDir() {
		return os.Mkdir(path, f.mode.Perm())
	}
	if err := os.WriteFile(path, f.data, f.mode.Perm()); err != nil {
		return err
	}
	return os.Truncate(path, f.size)
}
