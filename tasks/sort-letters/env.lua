-- Sort letters: "dbca>" asks for "abcd".
--
-- The reward is the part of positions that are right.

local LETTERS = "abcdefghijklmnopqrstuvwxyz"
local LENGTH = params.length or 6
local N_LETTERS = params.letters or 10

-- The letters of a problem, as a list: drawn from its seed until they belong to its split.
local function letters_of(problem)
    local letter
    repeat
        letter = {}
        for i = 1, LENGTH do
            local n = math.random(N_LETTERS)
            letter[i] = LETTERS:sub(n, n)
        end
    until split(table.concat(letter)) == problem.split
    return letter
end

local function answer_of(problem)
    local letter = letters_of(problem)
    table.sort(letter)
    return table.concat(letter)
end

local function prompt(problem)
    return table.concat(letters_of(problem)) .. ">"
end

local function score(problem, messages)
    local want = answer_of(problem)
    local got = messages[#messages].text
    local right = 0
    for i = 1, #want do
        if got:byte(i) == want:byte(i) then
            right = right + 1
        end
    end
    local reward = right / math.max(#want, #got)
    return reward, { exact = got == want and 1 or 0, length = #got }
end

return { prompt = prompt, demo = answer_of, score = score }
