/**
 * Owns: `ublk-nbd completion`: the scripts that make a shell ask us for words.
 * Runs in: the CLI.
 * Must not: compute words; complete.ts does, each time that the shell calls back.
 */
import { defineCommand } from '../command.ts';

/** SHELL tells yargs the form: zsh takes `word:description`, bash takes words. */
const BASH = `# bash completion of ublk-nbd; in ~/.bashrc: source <(ublk-nbd completion bash)
_ublk_nbd() {
  local current=\${COMP_WORDS[COMP_CWORD]} words
  words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  mapfile -t COMPREPLY < <(
    SHELL=bash ublk-nbd --get-yargs-completions ublk-nbd "\${words[@]}" 2>/dev/null |
      while IFS= read -r word; do [[ $word == "$current"* ]] && printf '%s\\n' "$word"; done
  )
}
complete -o bashdefault -o default -F _ublk_nbd ublk-nbd`;

const ZSH = `#compdef ublk-nbd
# zsh completion of ublk-nbd; in ~/.zshrc: source <(ublk-nbd completion zsh)
_ublk_nbd() {
  local -a reply
  reply=("\${(@f)$(SHELL=zsh ublk-nbd --get-yargs-completions ublk-nbd \\
    "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  reply=("\${(@)reply:#}")
  if (( \${#reply} )); then _describe 'ublk-nbd' reply; else _default; fi
}
if [[ "\${zsh_eval_context[-1]}" == loadautofunc ]]; then
  _ublk_nbd "$@"
else
  compdef _ublk_nbd ublk-nbd
fi`;

export const command = defineCommand({
  examples: [
    ['completion bash > /etc/bash_completion.d/ublk-nbd', 'For every user of bash'],
    ["completion zsh > '/usr/local/share/zsh/site-functions/_ublk-nbd'", 'The same for zsh'],
  ],
  build: (yargs) =>
    yargs.positional('shell', {
      choices: ['bash', 'zsh'] as const,
      demandOption: true,
      describe: 'The shell',
    }),
  run: async (args, { print }) => {
    print(args.shell === 'zsh' ? ZSH : BASH);
  },
});
